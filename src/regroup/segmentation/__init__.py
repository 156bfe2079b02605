"""Dataset protocols, sliding-window inference and mIoU."""
