"""The VQ codec: any tokenizer with any index model.

``tokenizer`` image -> latent -> indices -> image, ``index_models`` p(index | what the decoder already has) -> bytes,
``rdo`` which index to send given distortion + L * bits, ``container`` the file around the coded indices.
"""
