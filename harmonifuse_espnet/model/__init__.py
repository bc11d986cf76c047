"""The network: encoder, layer weights, component gate, connector, splice, language model, fusion, outputs."""
