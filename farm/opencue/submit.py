# OpenCue: run this with the Python that has pyoutline, on a machine that can reach Cuebot.
#
# #FRAMESPEC# is the exact list of frames of a chunk; #FRAME_END# of the last chunk may lie behind
# the end of the range, so --within is given as well. The command is sent to Cuebot unchanged:
# wrapped by pycuerun it would be run once for each frame. RQD refuses to run frames as root.
import outline
from outline import cuerun
from outline.modules.shell import Shell

COMMAND = "@MATTE@ '--frames=#FRAMESPEC#' --within=@FRAMES@ --progress=plain"

job = outline.Outline("@NAME@")
job.add_layer(Shell("matte", command=COMMAND, range="@FRAMES@", chunk=int("@CHUNK@")))
cuerun.launch(job, use_pycuerun=False)
