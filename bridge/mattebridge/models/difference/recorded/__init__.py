"""The keyer's steps at working size for a CUDA device: what `evidence`, `trimap` and the palette
do, in the same list of steps for any picture.

    small pictures --> evidence --> trimap --> palette     on the device, (C, h, w) or (h, w)

keyed       all of a frame, from its pictures to the foreground
evidence, trimap, palette     as their namesakes in main memory
linear      blurs, slopes and changes of size as products with matrices
masks       areas, distances, regions and samples
places      lists of pixels, of fixed length

No shape, branch or wait depends on the picture, so that the steps can be recorded
(`pytorch/graphs.py`). The results are those of the forms in main memory, within rounding.
"""
