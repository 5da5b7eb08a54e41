import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path in ("/ready", "/live") else 404)
        self.end_headers()


print("serving on port 8501", flush=True)
http.server.ThreadingHTTPServer(('', 8501), Handler).serve_forever()
