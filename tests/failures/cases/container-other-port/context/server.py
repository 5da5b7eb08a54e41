import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/ready", "/live") else 404)
        self.end_headers()


print("serving on port 5001", flush=True)
http.server.ThreadingHTTPServer(('', 5001), Handler).serve_forever()
