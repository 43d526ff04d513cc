-- CAST between numbers and texts, TRY_CAST where it fails
SELECT id, CAST(amount AS INT) AS i, CAST(amount AS DECIMAL(12, 1)) AS d1, CAST(amount AS STRING) AS t, CAST(id AS STRING) AS idt,
  TRY_CAST(status AS INT) AS failed, TRY_CAST('12.5' AS DECIMAL(4, 2)) AS parsed, CAST(qty AS DOUBLE) / 2 AS half, CAST(amount AS DECIMAL(4, 2)) AS narrow
FROM orders;
