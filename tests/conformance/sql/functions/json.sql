-- JSON_VALUE, JSON_QUERY, JSON_EXISTS, IS JSON
SELECT id, JSON_VALUE(doc, '$.a') AS a, JSON_VALUE(doc, '$.b.c[1]' RETURNING INT) AS c1, JSON_VALUE(doc, '$.nope' DEFAULT 'd' ON EMPTY) AS dflt,
  JSON_QUERY(doc, '$.b') AS b, JSON_EXISTS(doc, '$.s') AS has_s, doc IS JSON AS j, doc IS JSON OBJECT AS jo, doc IS JSON ARRAY AS ja
FROM bags;
