// A thread, a process, a watched file, and a server on the loopback.
const { Worker } = require('worker_threads');
const { execFileSync } = require('child_process');
const fs = require('fs');
const http = require('http');

const worker = new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true });
worker.on('message', (answer) => {
  console.log('worker', answer);
  console.log('process', execFileSync('echo', ['done']).toString().trim());
  fs.writeFileSync('seen', '');
  const watcher = fs.watch('seen', () => {
    watcher.close();
    console.log('watched');
    const server = http.createServer((request, response) => response.end('served'));
    server.listen(0, '127.0.0.1', () => {
      http.get({ port: server.address().port, agent: false }, (response) => {
        response.on('data', (text) => console.log(text.toString()));
        response.on('end', () => server.close());
      });
    });
  });
  fs.appendFileSync('seen', 'x');
});
