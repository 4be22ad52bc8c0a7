def test_it():
    import os, torch, cv2
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1), (torch.get_num_threads(), cv2.getNumThreads())
