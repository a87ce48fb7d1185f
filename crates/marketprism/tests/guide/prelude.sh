# What a test machine lacks, as functions of the same names. Everything else in the guide's lines is the real thing.
#
# $ROOT stands for the container's "/", so $ROOT/app is both the folder with docker-compose.yml and the image's /app, where
# ./config, ./logs and the data are mounted. $STATE holds the service's log, port and process number. A line that these
# functions do not know fails: the guide has changed.

APP=$ROOT/app

unknown() {
  echo "the tests know nothing of: $*" >&2
  return 64
}

is_running() {
  local id
  id=$(cat "$STATE/pid" 2>/dev/null) || return 1
  # Whoever adopted it may not have buried it.
  [ -e "/proc/$id" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$id/status"
}

# Starts the program as the image does, with the variables named, and waits until it listens.
start_service() {
  local from name port i variables=()
  for name in "$@"; do variables+=("$name=${!name-}"); done
  touch "$STATE/log"
  from=$(wc -l < "$STATE/log")
  (
    builtin cd "$APP"
    exec env -i PATH="$PATH" "${variables[@]}" \
      "$MARKETPRISM" serve --config config/config.yaml --data-dir data --listen 127.0.0.1:0
  ) < /dev/null >> "$STATE/log" 2>&1 &
  echo $! > "$STATE/pid"
  for ((i = 0; i < 1200; i++)); do
    is_running || break
    port=$(sed -n "$((from + 1)),\$ s/.*\"listening\".*\"address\":\"127.0.0.1:\([0-9]*\)\".*/\1/p" "$STATE/log")
    if [ -n "$port" ]; then
      echo "$port" > "$STATE/port"
      return
    fi
    sleep 0.05
  done
  tail -n "+$((from + 1))" "$STATE/log" >&2
  return 1
}

stop_service() {
  local i
  is_running || return 0
  kill -TERM "$(cat "$STATE/pid")"
  for ((i = 0; i < 1200; i++)); do
    is_running || return 0
    sleep 0.05
  done
  echo 'the service does not stop' >&2
  return 1
}

docker-compose() {
  case "$*" in
    'up -d') stop_service && start_service $COMPOSE_VARIABLES ;;
    'restart monitoring-alerting') stop_service && start_service $COMPOSE_VARIABLES ;;
    'ps') is_running && echo 'monitoring-alerting   Up' ;;
    # -f would go on for ever.
    'logs monitoring-alerting' | 'logs -f monitoring-alerting') sed 's/^/monitoring-alerting  | /' "$STATE/log" ;;
    'config')
      type -P docker-compose > /dev/null || { echo 'run: apt-get install docker-compose' >&2; return 1; }
      command docker-compose config
      ;;
    *) unknown docker-compose "$@" ;;
  esac
}

docker() {
  case "$*" in
    'build -t marketprism/monitoring-alerting:latest .') [ -f Dockerfile ] ;;
    # What is pulled is what is under test.
    'pull marketprism/monitoring-alerting:latest') [ -x "$MARKETPRISM" ] ;;
    'exec monitoring-alerting '*)
      shift 2
      (builtin cd "$ROOT" && "${@/#\//}")
      ;;
    *) unknown docker "$@" ;;
  esac
}

kubectl() {
  case "$*" in
    'apply -f '*) [ -f "$3" ] && echo "$3" >> "$STATE/applied" ;;
    'get pods -n marketprism-monitoring') grep deployment.yaml "$STATE/applied" ;;
    'get services -n marketprism-monitoring') grep service.yaml "$STATE/applied" ;;
    *) unknown kubectl "$@" ;;
  esac
}

# There is nothing to install beside the one program.
pip() {
  case "$*" in
    'install -r requirements.txt') [ -x "$MARKETPRISM" ] ;;
    *) unknown pip "$@" ;;
  esac
}

python() {
  case "$*" in
    '-m venv venv') mkdir -p venv/bin && : > venv/bin/activate ;;
    # Only the guide's .env gives variables here.
    'services/monitoring-alerting-service/main.py') start_service ;;
    *) unknown python "$@" ;;
  esac
}

# The service's own folder was one of many; now the Dockerfile stands at the top.
cd() {
  case "$*" in
    'services/monitoring-alerting-service') builtin cd "$TREE" ;;
    *) unknown cd "$@" ;;
  esac
}

curl() {
  case "$*" in
    'http://localhost:8082/'*) command curl -sS --noproxy '*' "${1/localhost:8082/127.0.0.1:$(cat "$STATE/port")}" ;;
    *) unknown curl "$@" ;;
  esac
}
