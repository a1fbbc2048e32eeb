"""What is secret in a private key and a PIN, in every form in which a program may hold it."""

import base64
import hashlib

from .der import elements, value

# Bytes of a document on either side of a number, which show that the document is there.
AROUND = 8


def clamped(digest):
    """The scalar of an Ed25519 key, from the SHA-512 of its seed (RFC 8032 5.1.5)."""
    scalar = bytearray(digest[:32])
    scalar[0] &= 0xF8
    scalar[31] = scalar[31] & 0x7F | 0x40
    return bytes(scalar)


def numbers(documents):
    """A key's private numbers by name, as they stand in its DER `documents`."""
    traditional = [value(element) for element in elements(documents["PKCS#1 or SEC1"])]
    if len(traditional) == 9:  # PKCS#1: RFC 8017 A.1.2
        names = ("d", "p", "q", "dP", "dQ", "qInv")
        return dict(zip(names, (number.lstrip(b"\0") for number in traditional[3:])))
    if len(traditional) == 4:  # SEC1: RFC 5915 3
        return {"scalar": traditional[1]}
    seed = documents["PKCS#8"][-32:]  # Ed25519, RFC 8410 7
    digest = hashlib.sha512(seed).digest()
    return {"seed": seed, "expanded seed": clamped(digest) + digest[32:]}


def base64_forms(number):
    """How it stands in base64, after 0, 1 and 2 other bytes: the characters that are its alone."""
    return [base64.b64encode(bytes(shift) + number)[4:-4] for shift in range(3)]


def forms_of_key(authority, key):
    """The private numbers of a PEM file and the documents around them: name and form, and bytes."""
    der = lambda *options: authority.openssl("pkey", "-in", key, "-outform", "DER", *options).stdout
    documents = {"PKCS#8": der(), "PKCS#1 or SEC1": der("-traditional")}
    found = {}
    for name, number in numbers(documents).items():
        found[name, "big-endian"] = number
        found[name, "little-endian"] = number[::-1]
        for shift, text in enumerate(base64_forms(number)):
            found[name, f"base64, {shift}"] = text
        for document, text in documents.items():
            at = text.find(number)
            if at >= 0:
                found[name, document] = text[max(0, at - AROUND) : at + len(number) + AROUND]
    return found


def forms_of_pin(pin):
    encodings = ("utf-8", "utf-16-le", "utf-16-be")
    return {("PIN", encoding): pin.encode(encoding) for encoding in encodings}
