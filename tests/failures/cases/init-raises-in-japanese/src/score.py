def init():
    raise ValueError("モデルの形式が正しくありません")


def run(data):
    return 1
