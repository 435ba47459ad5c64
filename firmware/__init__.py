"""C driver of an lmht design: ``lmht.h`` says what it does."""
