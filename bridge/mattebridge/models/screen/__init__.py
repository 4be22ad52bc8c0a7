"""`screen`: the keyer for green and blue screens: a plate is enough. No weights.

card     what is known without cv2
model    the engine's model: the steps in order
find     which screen there is, if any       field    the empty screen behind the subject
key      how much screen is in each pixel    weights  of the key, from the subject's colours nearby
spill    the screen's light on the subject
"""
