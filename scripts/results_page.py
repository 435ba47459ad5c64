def write(docs):
    raise NotImplementedError
