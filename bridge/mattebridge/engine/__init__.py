"""One frame on one device: planes in, alpha, foreground and premultiplied out, whatever the model.

engine         Engine: the loaded models, and a frame's way: inputs -> align -> model -> finish
request        whether it can be rendered: planes, sizes, limits, what the model needs
inputs         the planes copied, finite and straight
render_scale   a held clean plate at the size of a proxy
clean_plates   the clean plates kept between frames
align          the clean plate aligned to the plate
finish         the results, rounded and written
picture        one image in every colour space
"""
