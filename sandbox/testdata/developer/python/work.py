# Threads, processes started in each way, and what they share.
import concurrent.futures
import multiprocessing
import threading
from multiprocessing import shared_memory


def square(x):
    return x * x


def main():
    done = []
    threads = [threading.Thread(target=done.append, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print("threads", sorted(done))
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(square, range(4)))
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        print("executor", list(executor.map(square, range(4))))
    counter = multiprocessing.Value("i", 40)  # a semaphore in /dev/shm
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=queue.put, args=(2,))
    process.start()
    with counter.get_lock():
        counter.value += queue.get()
    process.join()
    print("shared", counter.value)
    memory = shared_memory.SharedMemory(create=True, size=1 << 20)
    memory.buf[0] = 7
    again = shared_memory.SharedMemory(memory.name)
    print("memory", again.buf[0])
    again.close()
    memory.close()
    memory.unlink()
    with multiprocessing.Manager() as manager:  # a server on a local socket
        table = manager.dict(a=1)
        print("manager", dict(table))


if __name__ == "__main__":
    main()
