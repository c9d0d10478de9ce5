"""What codecs made of other people's networks share; the adapters ``compressai`` and ``torchhub`` build on it.

``codec`` one model for each operating point, ``container`` the file around a model's entropy coded strings, ``network``
a network in use (device, threads, symbols), ``weights`` where weights lie and how they are read without running code.
"""
