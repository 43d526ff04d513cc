-- the fields of an array of rows become columns
SELECT id, sku, qty FROM bags CROSS JOIN UNNEST(items) AS t (sku, qty);
