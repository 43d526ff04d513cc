-- entries of a map as key and value
SELECT id, k, val FROM bags CROSS JOIN UNNEST(attrs) AS t (k, val);
