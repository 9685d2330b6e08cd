"""Small programs that doctor has other interpreters run. They print nothing: the exit code tells how they fared."""

from __future__ import annotations

NOT_INSTALLED = 3
WENT_AROUND = 6
NO_PROXY_THERE = 7
UNKNOWN_AGENT = 47
DISTRUSTED = 60

URLLIB = f"""
import socket, ssl, sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=4).read(1)
except urllib.error.HTTPError:
    pass
except urllib.error.URLError as error:
    reason = error.reason
    if isinstance(reason, ssl.SSLError):
        sys.exit({DISTRUSTED} if "CERTIFICATE_VERIFY_FAILED" in str(reason) else 1)
    if isinstance(reason, socket.gaierror):
        sys.exit({WENT_AROUND})
    if isinstance(reason, ConnectionError):
        sys.exit({NO_PROXY_THERE})
    sys.exit({UNKNOWN_AGENT} if "407" in str(reason) else 1)
"""

REQUESTS = f"""
import sys
try:
    import requests
except ImportError:
    sys.exit({NOT_INSTALLED})
try:
    requests.get(sys.argv[1], timeout=4)
except OSError as error:
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said or "invalid path" in said:
        sys.exit({DISTRUSTED})
    if "407" in said:
        sys.exit({UNKNOWN_AGENT})
    if "NameResolution" in said or "Name or service not known" in said or "nodename nor servname" in said:
        sys.exit({WENT_AROUND})
    sys.exit({NO_PROXY_THERE} if "refused" in said else 1)
"""

# fetch reads the proxy variables in some versions only (the version is looked at apart): here the tunnel is made by hand, and
# what is tried is whether Node trusts what comes out of it.
NODE = f"""
const http = require('http'), tls = require('tls');
const named = process.env.https_proxy || process.env.HTTPS_PROXY || process.env.all_proxy || process.env.ALL_PROXY;
const proxy = new URL(named.includes('://') ? named : 'http://' + named);
const host = process.argv[1];
const headers = {{Host: host + ':443'}};  // by itself Node names the proxy there
if (proxy.username) headers['Proxy-Authorization'] = 'Basic ' + Buffer.from(
    decodeURIComponent(proxy.username) + ':' + decodeURIComponent(proxy.password)).toString('base64');
const where = {{host: proxy.hostname.replace(/^\\[|\\]$/g, ''), port: proxy.port}};
http.request({{...where, method: 'CONNECT', path: host + ':443', headers}})
    .on('connect', (response, socket) => {{
        if (response.statusCode === 407) process.exit({UNKNOWN_AGENT});
        if (response.statusCode !== 200) process.exit(1);
        tls.connect({{socket, servername: host}}, () => process.exit(0)).on('error', error =>
            process.exit(/CERT|ISSUER|SELF_SIGNED|SIGNATURE/.test(error.code || '') ? {DISTRUSTED} : 1));
    }})
    .on('error', error => process.exit(error.code === 'ECONNREFUSED' ? {NO_PROXY_THERE} : 1))
    .end();
"""

# What an agent that runs as the same user could do: open each file as named, without reading or changing a byte of it. In a
# process of its own, because closing a database's file drops every lock that this process has on it
# (sqlite.org/howtocorrupt.html, 2.2).
REACH = """
import json, os, sys
def can(how, path):
    try:
        if how == "list":
            os.listdir(path)
        else:
            os.close(os.open(path, os.O_RDONLY if how == "read" else os.O_WRONLY))
    except OSError:
        return False
    return True
json.dump([can(how, path) for how, path in json.load(sys.stdin)], sys.stdout)
"""
