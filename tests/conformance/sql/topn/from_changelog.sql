-- over a changelog with deletes
-- key: city
SELECT city, name, balance
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY city ORDER BY balance DESC, name) AS rn FROM accounts)
WHERE rn = 1;
