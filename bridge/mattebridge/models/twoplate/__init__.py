"""`twoplate`: the project's own network, which corrects the matte of `difference`.

card      what is known without torch; the shipped weights (data/)
model     the engine's model
network   coarse net and refiner        tiles   the refiner only where it is needed
grain     alpha without grain           highlights  light above white
strands   the keyer's hairs
onnx      the network as an ONNX file
"""
