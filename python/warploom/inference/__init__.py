"""A trained network and the images it is used on: what every command after training begins with."""
