-- an update that changes no selected column
-- key: id
SELECT id, UPPER(city) AS city FROM accounts;
