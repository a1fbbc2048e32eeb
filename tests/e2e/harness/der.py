"""DER, as far as the tests look into it."""


def extent(der, at=0):
    """Where the value of the element at `at` starts, and where it ends."""
    size, start = der[at + 1], at + 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[at + 2 : start], "big")
    return start, start + size


def value(element):
    start, end = extent(element)
    return element[start:end]


def elements(der):
    """The elements in a SEQUENCE, a SET, an explicit tag or an OCTET STRING, whole."""
    at, end = extent(der)
    found = []
    while at < end:
        start, (_, at) = at, extent(der, at)
        found.append(der[start:at])
    return found


def element(der, *path):
    """The element at a path of numbers from 0."""
    for number in path:
        der = elements(der)[number]
    return der


def encode(tag, value, form="shortest"):
    """An element, its length in the shortest form, as DER has it, in another of BER's that OpenSSL
    takes, or left open."""
    size = len(value)
    if form == "indefinite":
        return bytes([tag, 0x80]) + value + bytes(2)
    if form == "padded":
        return bytes([tag, 0x84]) + size.to_bytes(4, "big") + value
    count = 0 if size < 0x80 else (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | count] if count else [tag]) + size.to_bytes(max(count, 1), "big") + value
