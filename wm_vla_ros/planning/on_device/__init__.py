"""Planning in torch, for the runtimes that have it: gradients of the objective, and whole plans on a device.

Apart from `planning`, which must load without torch.
"""
