"""`difference`: the classical keyer from plate and clean plate, without weights.

card        what is known without cv2 and torch
keyer       the engine's model: the steps in order
evidence    how far each pixel is from the set      trimap      subject, set or unknown
solved      alpha and colour at full size, on a CPU and as a list of steps for a GPU
mixture     unknown pixels as mixtures              smoothing   doubtful pixels and neighbours
foreground  the straight colour of an alpha         noise       grain between plate and clean plate
closed_form the slow way, for stills        islands     parts of the set far from the subject
working_size  pictures at the size of most steps, and back      full_size  the same on any device
"""
