#!/usr/bin/env python3
"""Makes fuzz/corpus anew from tests/vectors and config: a file per case, named after its content. Run it when the vectors
change: python3 fuzz/seed.py"""
import hashlib, json, pathlib, shutil

root = pathlib.Path(__file__).resolve().parent.parent
corpus = root / "fuzz/corpus"
vectors = lambda name: json.loads((root / "tests/vectors" / f"{name}.json").read_text())
shutil.rmtree(corpus, ignore_errors=True)


def seed(target, content):
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (corpus / target).mkdir(parents=True, exist_ok=True)
    (corpus / target / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


for case in vectors("canonical-json")["cases"]:
    seed("canonical_json", case["text"])
for text in vectors("canonical-json")["not_json"]:
    seed("canonical_json", text)
# Found by fuzzing: two shortest texts are equally near, and the even one counts.
seed("canonical_json", "678678901243560.29500")
# Found by fuzzing: canonical, it is an integer that no document may have.
seed("canonical_json", '-444444454444444444429496729144444e-14')

for case in vectors("handles")["handles"] + vectors("handles")["aliases"]:
    seed("handle", case["text"])

compact = lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
wrapped = vectors("server-wrapper")["cases"]
envelopes = vectors("envelopes")
one = wrapped[0]
names = ["Server-Id", "Protocol-Version", "Nonce", "Timestamp", "Server-Signature"]
headers_of = lambda case: [case["headers"][f"X-Parchment-{name}"] for name in names]
headers = headers_of(one)
for case in wrapped:
    seed("envelope", "\n".join([*headers_of(case), case["body_received"]]))
for case in envelopes["v2"]:
    seed("envelope", "\n".join([*headers, compact(case["envelope"])]))
for case in envelopes["v1_substitution"]:
    seed("envelope", "\n".join([*headers, compact(case["message"])]))
for case in envelopes["encodings"] + envelopes["strictness"]:
    seed("envelope", "\n".join([case["key"], *headers[1:4], case["signature"], one["body_received"]]))

# The target's own peer, recipient and time; see fuzz_targets/inbox.rs.
time, nonce = "2026-09-21T14:13:00.000Z", "AAECAwQFBgcICQoLDA0ODw=="
payloads = {"RESOURCE_SHARE": {"resourceType": "collection", "resourceId": "c1", "encryptedData": "AAAA", "nonce": "AAAA", "role": "viewer"}}
kinds = ["FRIEND_INVITE", "FRIEND_ACCEPT", "FRIEND_REJECT", "RELATIONSHIP_REVOKE", "RESOURCE_SHARE", "LOCATION_UPDATE", "REALTIME_EVENT"]
for number, kind in enumerate(kinds):
    message = {"protocol_version": 2, "message_type": kind, "message_version": 1, "from": "carol@peer.example", "to": "bob@here.example",
               "nonce": nonce, "timestamp": time, "payload": payloads.get(kind, {}), "signature": "AAAA"}
    old = {"type": kind, "from": "carol@peer.example", "to": "bob@here.example", "timestamp": time, "signature": "AAAA"}
    for first in "su":
        for which, body in enumerate([message, old]):
            seed("inbox", "\n".join([f"{first}peer.example", "2", f"{nonce[:-4]}{number}{which}==", time, "A" * 86 + "==", compact(body)]))

good = envelopes["v2"][0]["signingKey"]
rotation = {"expectedCurrent": 1, "signingKey": good, "encryptionKey": good,
            "blobs": [{"blobType": "friends", "encryptedBlob": "AgE="}],
            "collections": [{"id": "c1", "metadataEncrypted": "AgE="}],
            "slots": [{"credentialId": "a2V5", "wrappedKm": "AgE=", "slotSignature": "c2ln"}],
            "dropSlots": ["b2xk"], "requireComplete": True}
seed("rotation", compact(rotation))
for name in rotation:
    seed("rotation", compact({other: value for other, value in rotation.items() if other != name}))
    seed("rotation", compact({**rotation, name: None}))
seed("rotation", compact({**rotation, "blobs": rotation["blobs"] * 2}))
seed("rotation", "[]")

for file in ["config/default.toml", "config/development.toml"]:
    seed("settings", (root / file).read_bytes())
secret = "hunter2hunter2"
for text in [
    f'[server]\nidentity_key = "{secret}"\n', f'[server]\nidentity_key = "{secret}\n', f'[server]\nidentity_key = {secret}\n', f'[server]\nwrapping_keys = "{secret}"\n', f'[mail]\nsmtp_url = "smtp://me:{secret}@mail.example"\n',
    f'[database]\nurl = "postgres://me:{secret}@db.example/vellum"\n', f'[database]\nurl = "mysql://me:{secret}@db.example"\n',
    f'[telemetry]\notlp_endpoint = "http://collector.example:4318"\n', '[http]\norigin = "https://node.example"\nlisten = "127.0.0.1:0"\n',
    '[federation]\nmode = "allow_list"\nretry_multiplier = 1.5\n', '[unknown]\nsetting = 1\n',
]:
    seed("settings", text)
print(*(f"{folder.name}: {len(list(folder.iterdir()))}" for folder in sorted(corpus.iterdir())), sep="\n")
