class Model:
    def init(self):
        pass

    def run(self, data):
        return data
