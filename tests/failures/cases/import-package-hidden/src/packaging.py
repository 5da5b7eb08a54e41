boxes = 3
