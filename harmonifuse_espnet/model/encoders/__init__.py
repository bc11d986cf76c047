"""Speech encoders behind one interface, :class:`harmonifuse_espnet.model.encoders.base.SpeechEncoder`."""
