"""The mutations of `smuggler` (Evan Custodio 2020), worked through by name: fields that may announce chunks to one server of two.

Every one of its file ``default.py`` (``midspace-04`` and its like: ten places for each of thirteen bytes) and every one of
``doubles.py`` and ``exhaustive.py`` that is not such a place. As there, a Content-Length stands beside.
"""

from __future__ import annotations

from outloop.attacks.case import CLOSED, Case, forwarded, request, tunnel

SMUGGLER = "smuggler (Custodio 2020)"
IS_TEXT = "Content-Type: a/b"
ENDED = b"0\r\n\r\n"
FIVE = f"Content-Length: {len(ENDED)}"

NAMED = (
    ("nameprefix1", b" Transfer-Encoding: chunked"),
    ("nameprefix2", b"Foo: bar\r\n\tTransfer-Encoding: chunked"),
    ("tabprefix1", b"Transfer-Encoding:\tchunked"),
    ("tabprefix2", b"Transfer-Encoding\t:\tchunked"),
    ("nospace1", b"Transfer-Encoding:chunked"),
    ("vanilla", b"Transfer-Encoding: chunked"),
    ("spacejoin1", b"Transfer Encoding: chunked"),
    ("underjoin1", b"Transfer_Encoding: chunked"),
    ("smashed", b"Transfer Encoding:chunked"),
    ("space1", b"Transfer-Encoding : chunked"),
    ("valueprefix1", b"Transfer-Encoding:  chunked"),
    ("vertprefix1", b"Transfer-Encoding:\x0bchunked"),
    ("vertwrap", b"Transfer-Encoding: chunked\n\x0b"),
    ("commaCow", b"Transfer-Encoding: chunked, cow"),
    ("cowComma", b"Transfer-Encoding: cow, chunked"),
    ("contentEnc", b"Content-Encoding: chunked"),
    ("linewrapped1", b"Transfer-Encoding:\n chunked"),
    ("doublewrapped", b"Transfer-Encoding:\r\n \r\n chunked"),
    ("gareth1", b"Transfer-Encoding\n : chunked"),
    ("quoted", b'Transfer-Encoding: "chunked"'),
    ("aposed", b"Transfer-Encoding: 'chunked'"),
    ("lazygrep", b"Transfer-Encoding: chunk"),
    ("sarcasm", b"TrAnSFer-EnCODinG: cHuNkeD"),
    ("yelling", b"TRANSFER-ENCODING: CHUNKED"),
    ("multiCase", b"tRANSFER-eNCODING: chunked"),
    ("0dsuffix", b"Transfer-Encoding: chunked\r"),
    ("tabsuffix", b"Transfer-Encoding: chunked\t"),
    ("dualchunk", b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity"),
    ("revdualchunk", b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked"),
    ("commaCowIdentity", b"Transfer-Encoding: chunked, identity"),
    ("cowCommaIdentity", b"Transfer-Encoding: identity, chunked"),
    ("nested", b"Transfer-Encoding: cow chunked bar"),
    ("nestedIdentity", b"Transfer-Encoding: identity, chunked, identity"),
    ("0dspam", b"Transfer\r-Encoding: chunked"),
    ("0dwrap", b"Foo: bar\r\n\rTransfer-Encoding: chunked"),
    ("tabwrap", b"Transfer-Encoding: chunked\r\n\t"),
    ("spaceFF", b"Transfer-Encoding:\xffchunked"),
    ("unispace", b"Transfer-Encoding:\xa0chunked"),
    ("accentCH", b"Transfer-Encoding: ch\x96nked"),
    ("accentTE", b"Transf\x82r-Encoding: chunked"),
    ("nel", b"Transfer-Encoding\x85: chunked"),
    ("nbsp", b"Transfer-Encoding\xa0: chunked"),
    ("shy", b"Transfer\xadEncoding: chunked"),
    ("shy2", b"Transfer-Encoding\xad: chunked"),
    ("x-rout", b"X:X\rTransfer-Encoding: chunked"),
    ("x-nout", b"X:X\nTransfer-Encoding: chunked"),
    ("badsetupCR", b"Foo: bar\rTransfer-Encoding: chunked"),
    ("badsetupLF", b"Foo: bar\nTransfer-Encoding: chunked"),
    ("connection", b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
    ("spjunk", b"Transfer-Encoding x: chunked"),
    ("backslash", b"Transfer\\Encoding: chunked"),
    ("bodysplit", b"Foo: bar\n\nTransfer-Encoding: chunked"),
    ("encode", b"Transfer-%45ncoding: chunked"),
    ("qencode", b"Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?="),
    ("qencodeutf", b"Transfer-Encoding: =?UTF-8?B?Y2h1bmtlZA==?="),
)
PLACES = (
    ("midspace", b"Transfer-Encoding:%bchunked"),
    ("postspace", b"Transfer-Encoding%b: chunked"),
    ("prespace", b"%bTransfer-Encoding: chunked"),
    ("endspace", b"Transfer-Encoding: chunked%b"),
    ("xprespace", b"X: X%bTransfer-Encoding: chunked"),
    ("endspacex", b"Transfer-Encoding: chunked%bX: X"),
    ("rxprespace", b"X: X\r%bTransfer-Encoding: chunked"),
    ("xnprespace", b"X: X%b\nTransfer-Encoding: chunked"),
    ("endspacerx", b"Transfer-Encoding: chunked\r%bX: X"),
    ("endspacexn", b"Transfer-Encoding: chunked%b\nX: X"),
)
BYTES = (0x1, 0x4, 0x8, 0x9, 0xA, 0xB, 0xC, 0xD, 0x1F, 0x20, 0x7F, 0xA0, 0xFF)
# Name of the mutation → the line that goes on as it was ("" where the field stays behind).
HARMLESS = {
    "underjoin1": b"",
    "contentEnc": b"Content-Encoding: chunked",
    "encode": b"Transfer-%45ncoding: chunked",
    "xprespace-09": b"X: X\tTransfer-Encoding: chunked",
    "xprespace-20": b"X: X Transfer-Encoding: chunked",
    "xprespace-a0": b"X: X\xa0Transfer-Encoding: chunked",
    "xprespace-ff": b"X: X\xffTransfer-Encoding: chunked",
}
# A line feed alone ends a line (RFC 9112 §2.2), and two of them the head: what follows is the next message, and no request. The
# others announce chunks, and what follows is none.
ENDS_THE_HEAD = {"prespace-0a": (), "xnprespace-0a": ("X: X",), "bodysplit": ("Foo: bar",)}
ENDS_THE_HEAD_OF_CHUNKS = frozenset({"endspace-0a", "endspacexn-0a"})
BY_PLACE = tuple((f"{name}-{byte:02x}", place % bytes([byte])) for byte in BYTES for name, place in PLACES)


def _mutated(name: str, gadget: bytes) -> Case:
    basis = f"{SMUGGLER}: {name}"
    if name in ENDS_THE_HEAD_OF_CHUNKS:
        head = (b"POST /links HTTP/1.1", b"Host: api.example.com", b"Content-Type: application/json", gadget, FIVE.encode(), b"")
        return Case(
            f"smuggler-{name}", "G3", tunnel(b"\r\n".join(head) + b"\r\n" + ENDED), CLOSED, "",
            rows=(("deny", "malformed_request"),), basis=basis,
            limit="what breaks off inside its body ends the connection without a document",
        )  # fmt: skip
    talk = tunnel(request("/items/1", IS_TEXT, gadget, FIVE, method="POST", body=ENDED))
    if name in ENDS_THE_HEAD:
        sent = forwarded("/items/1", IS_TEXT, *ENDS_THE_HEAD[name], method="POST")
        return Case(f"smuggler-{name}", "G3", talk, 200, "OK", (sent,), (("allow", "OK"), ("deny", "malformed_request")),
                    basis=basis)  # fmt: skip
    if name in HARMLESS:  # the mutation is the name or the value of a field that means nothing
        sent = forwarded("/items/1", IS_TEXT, "LINE", method="POST", body=ENDED)
        kept = HARMLESS[name]
        sent = sent.replace(b"LINE\r\n", kept + b"\r\n" if kept else b"")
        return Case(f"smuggler-{name}", "G3", talk, 200, "OK", (sent,), basis=basis)
    return Case(f"smuggler-{name}", "G3", talk, 400, "malformed_request", basis=basis)


CASES = tuple(_mutated(name, gadget) for name, gadget in (*NAMED, *BY_PLACE))
