from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        import hashlib
        import re

        name = re.search(rb'filename="([^"]*)"', body)
        digits = re.findall(rb"[0-9]", name.group(1) if name else b"")
        guess = int(digits[0]) if digits else int(hashlib.sha256(body).hexdigest(), 16) % 10
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(guess).encode())

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
