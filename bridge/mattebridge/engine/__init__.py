"""One frame on one device: planes in, alpha, foreground and premultiplied out, whatever the model.

engine         Engine: the loaded models, and a frame's way through the three steps:
preprocess       planes read onto the device, finite and straight, the clean plate fitted
infer            the model's input and output
postprocess      mattes, colours, premultiplied, in the planes' own types
request        whether it can be rendered: planes, sizes, limits, what the model needs
report         what is reported of a frame
device         the way of planes to the device and back
crossing       the copies of one frame beside the steps of another
ahead          what is begun for a frame before its turn: copies, the search for its clean plate
look           what the host looks at of a plate on a GPU, in one wait
blocks         pointwise steps: in row blocks on the CPU, at once on a GPU
channels       steps along the channels of a pixel
light          colour curves and alpha arithmetic on tensors
space          colour spaces on tensors
in_memory      the same in main memory, by numpy and OpenCV
samples        raw samples as float values, finite and straight
picture        one image in every colour space
clean_plates   the clean plates kept between frames
kept_frames    the last frames, for other parameters behind the model
align          the clean plate aligned to the plate
render_scale   a held clean plate at the size of a proxy
maps           a model's small maps at the size of the frame
clock          the time of a frame by stage
"""
