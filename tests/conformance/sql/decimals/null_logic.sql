-- three-valued logic
SELECT id, qty > 1 AS a, qty > 1 OR amount > 5 AS b, qty > 1 AND amount > 5 AS c, NOT (qty > 1) AS d, qty IS NULL AS e,
  (qty > 1) IS TRUE AS f, (qty > 1) IS NOT FALSE AS g, (qty > 1) IS UNKNOWN AS h, qty BETWEEN 1 AND 2 AS i, amount <> 20 AS j
FROM orders;
