# OpenCue: run this with the Python that has pyoutline, where Cuebot can be reached.
#
# #FRAMESPEC# names the frames of a chunk as they are; #FRAME_END# of the last chunk may lie behind
# the end of the range, which is why --within stands there as well. The command goes to Cuebot as it
# is: wrapped by pycuerun it would be run once a frame. RQD refuses to run frames as root.
import outline
from outline import cuerun
from outline.modules.shell import Shell

COMMAND = "@MATTE@ '--frames=#FRAMESPEC#' --within=@FRAMES@ --progress=plain"

job = outline.Outline("@NAME@")
job.add_layer(Shell("matte", command=COMMAND, range="@FRAMES@", chunk=int("@CHUNK@")))
cuerun.launch(job, use_pycuerun=False)
