"""Making cards from which machines boot as nodes: images, devices, the boot partition, wheels. See ``callboard flash``."""
