// What to paste to send as a device. Texts out of values; quoted for a shell or for Python.

export function topicOf(template, id) {
  return template.replaceAll("{id}", id);
}

// `one`: {id, credential, secret}; `place`: {host, mqttPort, origin}
export function snippets(one, topic, message, place) {
  return { mosquitto: mosquitto(one, topic, message, place), python: python(one, topic, message, place), curl: curl(one, topic, message, place) };
}

function mosquitto(one, topic, message, { host, mqttPort }) {
  if (mqttPort === null) return "# MQTT is switched off: listeners.mqtt.port in qanat.yaml";
  return [`mosquitto_pub -h ${shell(host)} -p ${mqttPort} -i ${shell(one.id)} \\`,
    `  -u ${shell(one.id)} -P ${shell(one.secret)} \\`,
    `  -t ${shell(topic)} -q 1 -m ${shell(message)}`].join("\n");
}

function python(one, topic, message, { host, mqttPort }) {
  if (mqttPort === null) return "# MQTT is switched off: listeners.mqtt.port in qanat.yaml";
  return `import paho.mqtt.client as mqtt  # pip install paho-mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=${text(one.id)}, protocol=mqtt.MQTTv5)
client.username_pw_set(${text(one.id)}, ${text(one.secret)})
client.connect(${text(host)}, ${mqttPort})
client.loop_start()
client.publish(${text(topic)}, ${text(message)}, qos=1).wait_for_publish(10)
client.disconnect()
client.loop_stop()
`;
}

function curl(one, topic, message, { origin }) {
  const who = one.credential === "token" ? `-H ${shell(`Authorization: Bearer ${one.secret}`)}` : `-u ${shell(`${one.id}:${one.secret}`)}`;
  const path = topic.split("/").map(encodeURIComponent).join("/");
  return [`curl ${shell(`${origin}/streams/${path}`)} \\`, `  ${who} -H 'content-type: application/json' \\`, `  -d ${shell(message)}`].join("\n");
}

function shell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// Python reads what JSON writes, also its escapes.
function text(value) {
  return JSON.stringify(value);
}

// A message with the columns that a stream wants and its topic does not say. `columns`: as /v1/streams gives them.
export function example(columns, given, eventTime) {
  const found = {};
  for (const { name, type, nullable } of columns) {
    if (name in given) {
      if (given[name] !== null) found[name] = given[name];
    } else if (name === eventTime) continue;
    else if (/^(DOUBLE|FLOAT|DECIMAL)/.test(type) && !Object.values(found).includes(21.5)) found[name] = 21.5;
    else if (!nullable) found[name] = sample(type);
  }
  return JSON.stringify(Object.keys(found).length ? found : { value: 21.5 });
}

function sample(type) {
  if (/INT/.test(type)) return 1;
  if (/^(DOUBLE|FLOAT|DECIMAL)/.test(type)) return 21.5;
  if (/^BOOLEAN/.test(type)) return true;
  if (/^TIMESTAMP/.test(type)) return new Date().toISOString();
  return "text";
}
