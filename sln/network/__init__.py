"""The network beside Fig. 4: one file a box, the losses of Eq. 6, and the builder of all."""
