-- functions over arrays
SELECT id, ARRAY_CONTAINS(tags, 'red') AS red, ARRAY_DISTINCT(tags) AS d, ARRAY_JOIN(tags, '+') AS joined, ARRAY_REVERSE(tags) AS back,
  ARRAY_POSITION(tags, 'blue') AS place, MAP_KEYS(attrs) AS ks, ELEMENT(ARRAY[id]) AS el
FROM bags WHERE attrs IS NULL OR CARDINALITY(attrs) < 2;
