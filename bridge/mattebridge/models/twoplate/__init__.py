"""`twoplate`: the project's own network, which corrects the matte of `difference`.

card      what is known without torch; the shipped weights (data/)
model     the engine's model
start     what the network is given     calm    pictures without grain
network   coarse net and refiner        tiles   on a CPU, the refiner only where it is needed
                                        whole   on a GPU, everywhere, in a fixed list of steps
grain     alpha without grain           highlights  light above white
light     a linear plate in light        near        pixels near a mask, on a GPU
strands   the keyer's hairs              screens     frames for the keyer for screens
onnx      the network as an ONNX file        window      a small subject in a large frame
"""
