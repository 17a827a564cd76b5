# Makes a wheel and serves it as a package index (PEP 503) on the loopback; the
# rest of the arguments is what to run while it does.
import functools
import http.server
import os
import subprocess
import sys
import threading
import zipfile

os.makedirs("index/simple/greet")
with zipfile.ZipFile("index/simple/greet/greet-1.0-py3-none-any.whl", "w") as wheel:
    info = "greet-1.0.dist-info/"
    files = {
        "greet.py": "text = 'installed'\n",
        info + "METADATA": "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[info + "RECORD"] = "".join(name + ",,\n" for name in [*files, info + "RECORD"])
    for name, text in files.items():
        wheel.writestr(name, text)

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="index")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/simple/" % server.server_address[1]
sys.exit(subprocess.call([sys.executable, "-m", "pip", *sys.argv[1:], "--index-url", url]))
