-- peer_python.sql: the account by PL/Python, over a kept connection.
CREATE FUNCTION python_account(method text, uri text, body text DEFAULT NULL) RETURNS text LANGUAGE plpython3u AS $$
import http.client
import urllib.parse

parts = urllib.parse.urlsplit(uri)
if 'connection' not in SD:
	SD['connection'] = http.client.HTTPConnection(parts.hostname, parts.port)
headers = {'Authorization': 'Bearer lp-token', 'Content-Type': 'application/json'}
SD['connection'].request(method, parts.path + '?' + parts.query, body, headers)
return SD['connection'].getresponse().read().decode()
$$;

-- How many users are in the answer.
CREATE FUNCTION python_count(method text, uri text, body text DEFAULT NULL) RETURNS int LANGUAGE plpython3u AS $$
import json

plan = SD.setdefault('plan', plpy.prepare('SELECT python_account($1, $2, $3) AS answer', ['text', 'text', 'text']))
answer = json.loads(plan.execute([method, uri, body])[0]['answer'])
return len(answer) if isinstance(answer, list) else 1
$$;
