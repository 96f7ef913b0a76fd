from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        import time

        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"7")
            self.wfile.flush()
            time.sleep(0.1)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
