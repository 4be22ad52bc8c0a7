"""`difference`: the classical keyer from plate and clean plate, without weights.

card        what is known without cv2 and torch
keyer       the engine's model: the steps in order
small       the pictures at working size, with or without grain (grain_filter)
evidence    how far each pixel is from the set      trimap      subject, set or unknown
recorded/   these and the palette on a CUDA device, and all that follows, recorded
solved      alpha and colour at full size, on a CPU and as a list of steps for a GPU
mixture     unknown pixels as mixtures              smoothing   doubtful pixels and neighbours
foreground  the straight colour of an alpha         noise       grain between plate and clean plate
closed_form the slow way, for stills        islands     parts of the set far from the subject
wide        the matte with a wider band     moved       things of the set that were moved
working_size  pictures at the size of most steps, and back      full_size  the same on any device
"""
