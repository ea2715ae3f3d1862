"""Training: a user's arrays checked and paired with their targets, fed to the device, and the loop over them."""
