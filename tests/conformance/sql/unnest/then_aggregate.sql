-- unnested rows in an updating aggregate
-- key: sku
SELECT sku, SUM(qty) AS q, COUNT(*) AS c FROM bags CROSS JOIN UNNEST(items) AS t (sku, qty) GROUP BY sku;
