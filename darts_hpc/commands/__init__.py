"""What each command does, once its flags are read; the module of the same name above this folder reads them."""
