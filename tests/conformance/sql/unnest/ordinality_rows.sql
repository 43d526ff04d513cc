-- WITH ORDINALITY over rows and over a map
SELECT id, sku, qty, place FROM bags CROSS JOIN UNNEST(items) WITH ORDINALITY AS t (sku, qty, place);
