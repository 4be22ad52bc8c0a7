"""The keyer's steps at working size for a GPU: what `evidence`, `trimap` and the palette do, in the
same list of steps for any picture.

    small pictures --> evidence --> trimap --> palette     on the device, (C, h, w) or (h, w)

OpenCV's operations are made of torch's: blurs and changes of size are products with matrices
(`linear`), areas and distances are maxima and minima of shifted planes (`masks`). No shape, branch
or wait depends on the picture, so that the steps can be recorded (`pytorch/graphs.py`). The results
are those of the forms in main memory, within rounding.
"""
