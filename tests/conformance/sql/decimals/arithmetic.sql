-- + - * / % of DECIMAL and INT
SELECT id, amount + 1 AS p, amount - 0.005 AS m, amount * qty AS t, amount / 3 AS d, MOD(id, 3) AS r, amount * 1.5 AS x, amount * CAST(2 AS DOUBLE) AS f, -amount AS neg
FROM orders;
