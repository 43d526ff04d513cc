-- LEFT JOIN keeps rows without elements
SELECT id, tag FROM bags LEFT JOIN UNNEST(tags) AS t (tag) ON TRUE;
