"""The plate + hint keyer: the network of CorridorKey checkpoints, which users bring themselves.

card        what is known of a checkpoint without torch
model       the engine's model
recognise   whether a file is for this network, and a sentence for each that is not
network     the network as published; encoder, decoder, refiner: its parts
fast        the same results in less time and memory; tiles: the refiner in parts
fit         how the frame lies in the network's square; square: there, and back
hints       a hint where none is sent
budget      which size and which way of refining fit the free memory
"""
